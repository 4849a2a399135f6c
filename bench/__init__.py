"""How fast the gateway is, measured on real processes: `python -m bench --help`, bench/README.md."""
