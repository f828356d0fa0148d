"""The public click gateway. It imports no provider and needs no database to answer a click."""
