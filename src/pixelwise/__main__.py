"""`python -m pixelwise` is the command line."""

import sys

from pixelwise.cli import main

sys.exit(main())
