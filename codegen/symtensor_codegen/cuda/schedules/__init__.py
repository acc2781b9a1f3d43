"""Which blocks and threads run which iterations of a kernel: nothing here writes text."""
