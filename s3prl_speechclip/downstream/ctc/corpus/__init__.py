"""Readers of the corpora of s3prl's `ctc` task, in its contract.

They are imported as `s3prl.downstream.ctc.corpus`, hence name this package in full.
"""
