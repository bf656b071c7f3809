"""One network per file; the file name is the network's kind."""
