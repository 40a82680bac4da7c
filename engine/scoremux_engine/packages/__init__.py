"""Task packages: PEFT files and `task.json`, read, checked and turned into tables."""
