"""One task per file; the file name is the task's kind."""
