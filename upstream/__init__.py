"""Upstreams in the layout of s3prl/upstream: a folder with hubconf.py and expert.py each."""
