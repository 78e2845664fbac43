"""When: one scheduler leads and turns due ticks into dispatched occurrences."""
