"""The command line: `scoremux`, and the commands that need no server beside them."""
