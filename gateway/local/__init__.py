"""`assent up`: real embedded servers and every process of the gateway on one machine, supervised."""
