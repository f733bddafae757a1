"""Events: what an operator deals with, made of what is said of an asset's rows."""
