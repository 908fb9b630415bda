"""What people see: progress, tables, error screens, result lines. The only room that knows rich."""
