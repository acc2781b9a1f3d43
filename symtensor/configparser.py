"""Theano's module of settings and their changes for a while."""

from symtensor.settings import Config, config

TheanoConfigParser = Config

__all__ = ["Config", "TheanoConfigParser", "config"]
