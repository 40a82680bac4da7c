"""How many machines a number of responses needs, and how much memory and disk: `scoremux plan-capacity`."""
