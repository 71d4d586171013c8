"""Studies: recipes side by side that differ in what is studied and agree in what they cost."""
