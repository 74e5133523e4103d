"""Hydra configurations of segpipe, installed as `segpipe.conf`."""
