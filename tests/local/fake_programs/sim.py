"""Stands in for a simulator server: healthy, and nothing else."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.send_response(200)
        self.end_headers()


HTTPServer((os.environ["ADA_HOST"], 7103), Handler).serve_forever()
