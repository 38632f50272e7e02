"""Run the command line: `python -m RadiomicsPanelLib`."""

import sys

from RadiomicsPanelLib.cli import main

sys.exit(main())
