"""Bulk-check Peru phone numbers on WhatsApp through AccuAuth."""
