"""What the commands do, callable from Python: nothing here prints, and progress is a callback."""
