"""Problems with chains of thought, and the judges of answers."""
