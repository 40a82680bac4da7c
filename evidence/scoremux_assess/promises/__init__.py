"""Whether what was promised of the rows that the machine keeps still holds, from one day to the next."""
