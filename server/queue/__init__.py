"""What the queue does between the door and the engine: fusion, leases, waiting and waking, housekeeping."""
