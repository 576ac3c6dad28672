// rows.csv: written task by task, whole or not at all as far as a reader can tell. Every line starts with its task and
// how many of the task's rows follow, so that a task that was cut off is seen and dropped.
#pragma once

#include <filesystem>

#include "lab/table.h"

namespace hone::lab {

class RowsFile {
 public:
  // Opens `path` or begins it. What an interrupted run left of its last line or last task is dropped. Throws
  // Error{corrupt} naming the line for anything else that is not as this class writes it, Error{io}.
  RowsFile(std::filesystem::path path, std::vector<std::string> columns);

  size_t tasks() const { return tasks_; }  // 0 … tasks() − 1 are there
  // The rows of task tasks(); on disk when this returns. Throws Error{io}.
  void append(const std::vector<Row>& rows);
  const Table& table() const { return table_; }  // what is on disk

 private:
  void read(std::string_view contents);

  std::filesystem::path path_;
  Table table_;
  size_t tasks_ = 0;
  uint64_t end_ = 0;  // bytes of whole tasks
};

}  // namespace hone::lab
