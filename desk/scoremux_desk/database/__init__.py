"""The database: its tables, its transactions, the people, and the record of everything that was done."""
