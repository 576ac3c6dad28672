// HONE_EXPECT_ERROR(statement, code, text): the statement throws hone::Error with that code and text in its message.
#pragma once

#include <gtest/gtest.h>

#include "hone/base.h"

#define HONE_EXPECT_ERROR(statement, expected_code, expected_text)                                     \
  try {                                                                                                \
    statement;                                                                                         \
    ADD_FAILURE() << "no error from " #statement;                                                      \
  } catch (const hone::Error& thrown) {                                                                \
    EXPECT_EQ(hone::name(thrown.code), hone::name(expected_code)) << thrown.message;                   \
    EXPECT_NE(thrown.message.find(expected_text), std::string::npos) << "message: " << thrown.message; \
  }
