"""From an array program to kernels and a host program.

``sizes`` proves or guards that sizes agree, ``units`` decides what is computed in place and what gets a loop of its
own, ``kernels`` groups those units into loop nests, ``plan`` gives them memory and puts the steps in order.
"""
