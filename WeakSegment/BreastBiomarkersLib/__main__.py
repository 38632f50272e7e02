"""`python -m BreastBiomarkersLib`."""

import sys

from BreastBiomarkersLib.cli import main

sys.exit(main())
