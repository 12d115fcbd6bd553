/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vfio_user: the server's side of the vfio-user protocol, including the iommufd extension.
 *
 * A listener (one socket path, one device) accepts clients; one session at a time is served. The session fills an ioas_ctx and
 * an irq_set of its own and calls its device for regions and resets. It does not know NVMe.
 *
 * Life of a session: accept -> VERSION (within 10 s) -> ops->open (makes a fresh device) -> serving -> gone: the socket is
 * closed, ops->close drains the device and answers later -> the ioas_ctx and irq_set go -> freed. Until then a new
 * client's VERSION is read but not answered; while a session is being served another client's VERSION gets EBUSY.
 *
 * Messages are handled in order, one at a time; a handler may answer later (-EINPROGRESS, then vu_complete). All whole messages
 * that are in the socket are handled in one call, up to a budget.
 *
 * Thread: everything on the home reactor of the listener.
 */
#ifndef BELFRY_VFIO_USER_H
#define BELFRY_VFIO_USER_H

#include "belfry/ioas.h"
#include "belfry/irq.h"

struct vu_listener;
struct vu_session;

#define VU_NUM_REGIONS 9
#define VU_REGION_CONFIG 7

struct vu_region {
	uint64_t len; /* 0: absent */
	bool read, write;
	/* One mappable area, or fd == -1. Borrowed; stays valid while the device is open. */
	int fd;
	uint64_t fd_off; /* what the client passes to mmap() for region offset 0 */
	uint64_t map_off, map_len;
};

/*
 * The device behind a session. Made by ops->open, for one session. @dev is the owner's.
 * region_read and region_write: 0, -errno for the reply, or -EINPROGRESS: then call vu_complete(session, err) later, and
 * for reads have filled @buf (it stays valid until then). [off, off + len) is inside the region, len > 0.
 */
struct vu_device_ops {
	/*
	 * The client is accepted. @ioas and @irqs are the session's. Gives the device, or -errno for the VERSION reply.
	 * -EINPROGRESS: vu_opened() follows (or came from inside open) and VERSION is answered then; no other op is called before.
	 * A client that leaves meanwhile: ops->close is called after vu_opened() with a device; never after an error.
	 */
	int (*open)(void *owner, struct vu_session *s, struct ioas_ctx *ioas,
		    struct irq_set *irqs, void **dev);
	/*
	 * The client has gone (or is thrown out), maybe while one of its calls here runs. Stop, drain, free; then call
	 * vu_closed(session), now or later. No reply can be sent any more (vu_complete is still harmless until vu_closed);
	 * buffers of a call that runs, the ioas_ctx and the irq_set stand until then.
	 */
	void (*close)(void *dev);
	void (*region_info)(void *dev, unsigned index, struct vu_region *out);
	int (*region_read)(void *dev, unsigned index, uint64_t off, void *buf,
			   uint32_t len);
	int (*region_write)(void *dev, unsigned index, uint64_t off,
			    const void *buf, uint32_t len);
	/* DEVICE_RESET. 0, or -EINPROGRESS and vu_complete. The device resets its irqs (irq_reset) itself. */
	int (*reset)(void *dev);
	/* SET_IRQS changed bindings or masks (INTx level may have to be signalled anew); may be NULL. */
	void (*irqs_changed)(void *dev);
};

struct vu_listener_config {
	const char *
		path; /* of the socket; copied. Over 107 bytes: -ENAMETOOLONG */
	unsigned mode; /* of the socket, 0: 0600 */
	int uid, gid;  /* -1: leave */
	unsigned msix; /* vectors */
	struct ioas_limits limits;
	const struct vu_device_ops *ops;
	void *owner;
};

/*
 * Bind and listen. A path where a dead daemon left its socket is taken over, after a probe (connect refused);
 * -EADDRINUSE: somebody listens; -EEXIST: something there is no socket; other -errno of bind.
 */
int vu_listen(struct reactor *home, const struct vu_listener_config *cfg,
	      struct vu_listener **out);
/* Unlink, drop clients, wait until every session has closed, then @done(arg). Idempotent is not needed. */
void vu_unlisten(struct vu_listener *l, void (*done)(void *arg), void *arg);

/* Ends an ops->open that gave -EINPROGRESS: @dev, or NULL and the -errno for the VERSION reply. */
void vu_opened(struct vu_session *s, void *dev, int err);
/*
 * Answer what gave -EINPROGRESS; the device has drained and is freed; throw the client out (controller failed for good,
 * listener changed; @why is a literal): all may be called from inside a device's op, none calls back before it returns.
 */
void vu_complete(struct vu_session *s, int err);
void vu_closed(struct vu_session *s);
void vu_disconnect(struct vu_session *s, const char *why);

/* For RPC: what the listener's current client is; false: none. */
struct vu_client_info {
	int pid, uid; /* SO_PEERCRED */
	bool iommufd;
	uint64_t messages; /* since it connected */
	struct ioas_usage usage;
	struct ioas_limits limits;
};
bool vu_client(const struct vu_listener *l, struct vu_client_info *out);

/*
 * Parsers, exposed for tests and fuzzers (no I/O, no state).
 */
struct vu_caps { /* of a peer's VERSION */
	uint16_t major, minor;
	uint32_t max_msg_fds;
	uint64_t max_data_xfer_size;
	bool iommufd, has_json, write_multiple, twin_socket;
};
/* @payload: VERSION's payload (4 bytes and JSON). -EINVAL: malformed, or another major. Defaults filled in. */
int vu_version_parse(const void *payload, size_t len, struct vu_caps *out);
/*
 * Our reply's payload into @buf, at most @max (>= 4) bytes, NUL counted: keys that do not fit are left out, all of the
 * JSON when none does. Gives its length. @max_maps: DMA mappings a client may have.
 */
#define VU_VERSION_REPLY_MAX 512
size_t vu_version_reply(const struct vu_caps *client, bool iommufd,
			uint32_t max_maps, void *buf, size_t max);

#endif
