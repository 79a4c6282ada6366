"""Text for people: tables, trees and lines made from what the library gives."""
