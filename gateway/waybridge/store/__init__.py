"""The rooms that know SQL: tables, the engine with its one writer, and one file of questions per subject."""
