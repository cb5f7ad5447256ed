"""What every room speaks: errors by blame, records, settings."""

MAY_IMPORT = ()
