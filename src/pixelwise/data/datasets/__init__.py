"""One reader per format; the file name is the data set's kind."""
