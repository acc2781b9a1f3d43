"""Theano's namespace of odds and ends: ``symtensor.misc.safe_asarray``."""
