"""Timers, schedules, statistics and roofline; no grading."""
