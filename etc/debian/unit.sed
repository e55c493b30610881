# From etc/goodwe.service the package's unit: without its first words, which are about /opt.
/^\[Unit\]/,$!d
s|^ExecStart=.*|ExecStart=/usr/sbin/GoodWe.py foreground|
s|^Documentation=.*|Documentation=file:///usr/share/doc/goodwe-usb-logger/README.md|
