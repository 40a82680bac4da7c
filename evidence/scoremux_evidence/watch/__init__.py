"""Whether promises about the rows that the machine keeps still hold, from one day to the next."""
