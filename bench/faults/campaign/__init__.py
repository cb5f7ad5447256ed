"""Thousands of faults, drawn by number, in every kind of work; and whether anything is lost by them.

``works`` says what is done, ``faults`` what goes wrong, ``plans`` draws a trial from its number, ``trial`` carries it
out, ``checks`` judges it, ``shrinking`` makes a failing one smaller, ``tables`` counts. See `bench.faults.campaign`'s
``--help``.
"""
