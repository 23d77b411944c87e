"""The client of volume drivers, which the original called storage routers."""
