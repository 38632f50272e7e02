"""`python -m NIRSTReconstructionLib`."""

import sys

from NIRSTReconstructionLib.cli import main

sys.exit(main())
