#include "base/rounding.h"

#include <gtest/gtest.h>

namespace hone::rounding_test {
namespace {

TEST(Rounding, NeverDown) {
  EXPECT_EQ(rounded_up(4.321928, 2), "4.33");
  EXPECT_EQ(rounded_up(4.3200001, 1), "4.4");
  EXPECT_EQ(rounded_up(159.61, 1), "159.7");
  EXPECT_EQ(rounded_up(1e-7, 2), "0.01");
}

TEST(Rounding, WhatHasTheDecimalsIsKept) {
  for (const auto& [value, text] : {std::pair(4.33, "4.33"), {0.07, "0.07"}, {3.0, "3.00"}, {0.0, "0.00"}})
    EXPECT_EQ(rounded_up(value, 2), text);
}

}  // namespace
}  // namespace hone::rounding_test
