"""What both emulated providers share: faults, persistence, notification delivery, the mailbox viewer."""
