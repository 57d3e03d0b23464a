"""The REST door: JSON in, JSON out, RFC 9457 problems. Reaches models through the gateway alone."""
