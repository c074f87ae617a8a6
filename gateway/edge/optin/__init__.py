"""The pages on which people agree: `/c/{form}`, the pop-up that carries it into a shop, and both records of an opt-in.

Promises: nobody learns from an answer whether a number is known, has agreed, has refused or was asked too often; what a
person typed is kept nowhere but sealed, and no longer than it may be confirmed; a page needs no script and no other
host.
"""
