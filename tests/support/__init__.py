"""What tests share: virtual time, and the adapters that the contract suite is run on."""
