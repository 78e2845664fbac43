"""What happened: what workers report is read and kept as history, and who fell silent is noticed."""
