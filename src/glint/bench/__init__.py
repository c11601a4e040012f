"""How fast and how large: measured on the machine at hand, beside what the machine could do at best."""
