"""The bridge from a GoodWe inverter's USB port to MQTT."""

__version__ = "1.0.0"
