"""Lists the captures of an archive, and says how far each of them is."""
