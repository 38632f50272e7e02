"""Entry of `python -m WeakSegmentLib`."""

import sys

from WeakSegmentLib.cli import main

sys.exit(main())
