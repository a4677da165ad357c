"""Every cent has a reason: usage into leaves, dated prices, charges, reports. Pure."""
