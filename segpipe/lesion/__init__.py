"""Pure functions on arrays that find, judge and cut out a lesion; no torch in here."""
