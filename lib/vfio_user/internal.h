/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside vfio_user: a listener, its sessions, the message at hand.
 *
 * A session handles one message at a time: vu_msg is filled from the socket, its
 * command's handler puts the answer into vu_out, that is sent, and only then
 * is the next message read. So a session's memory is one message and one reply.
 * Whatever happens outside (an answer that comes later, a disconnect) sets a field
 * and kicks the session: it moves only in session_step(), at the top of the loop.
 */
#ifndef VFIO_USER_INTERNAL_H
#define VFIO_USER_INTERNAL_H

#include <sys/stat.h>

#include "belfry/log.h"
#include "belfry/spec/vfio_user.h"
#include "belfry/vfio_user.h"

#define VU_MAX_FDS 64	    /* taken with one message */
#define VU_RECV_FDS 253	    /* the kernel passes so many at once, no more */
#define VU_SMALL 512	    /* messages up to this need no malloc */
#define VU_MAX_WAITING 8    /* clients without the device, per listener */
#define VU_BUDGET 128	    /* messages, or reads of a long one, in one go */
#define VU_BYTES (2u << 20) /* bytes in one go */
#define VU_TIME_NS 100000u  /* time in one go: others wait meanwhile */
#define VU_STEPS 8	    /* messages that it takes whatever the time */
#define VU_READS 4 /* of a message, before a look at the clock; most take two */
#define VU_VERSION_TIMEOUT_NS (10ull * 1000000000)
#define VU_VERSION_MAX 16384 /* of a client's VERSION payload */
#define VU_MULTI_MAX 2048    /* entries of one REGION_WRITE_MULTI */
#define VU_MULTI_STEP 32     /* of them before a look at the clock */
#define VU_MSG_MAX (sizeof(struct vu_hdr) + 16 + VU_DEFAULT_DATA_XFER)

/* A request, as far as it has come. */
struct vu_msg {
	struct vu_hdr hdr;
	size_t got;    /* bytes that have arrived, the header's too */
	size_t len;    /* of the payload */
	size_t kept;   /* of these, the first that are stored; rest dropped */
	uint8_t *body; /* small, or of the heap */
	unsigned nfds;
	int fds[VU_MAX_FDS + VU_RECV_FDS]; /* who takes one puts -1 here */
	uint8_t small[VU_SMALL];
};

/* The reply. */
struct vu_out {
	uint8_t *buf;	  /* header and payload: small, or of the heap */
	size_t room;	  /* prepared by the handler, header counted; 0: none */
	size_t len, sent; /* being sent */
	int fd;		  /* borrowed, goes with the first byte; -1 */
	uint8_t small[VU_SMALL];
};

enum vu_state {
	VU_GREETING,   /* VERSION is not here yet */
	VU_HELD,       /* VERSION waits for the device to become free */
	VU_SERVING,    /* owns the device: l->active */
	VU_CLOSING,    /* the device drains */
	VU_DESTROYING, /* the address space goes */
	VU_DEAD,
};

struct vu_session {
	struct vu_listener *l;
	struct list node;      /* in l->sessions, in order of arrival */
	struct list held_node; /* in l->held, in order of VERSION */
	struct reactor_fd rfd;
	struct reactor_timer timer;
	struct reactor_msg kick;
	bool kicked;	/* the message is under way */
	bool doomed;	/* is to be dropped */
	bool busy;	/* a handler has said -EINPROGRESS */
	bool completed; /* and has been answered with */
	int result;
	bool opening;	/* ops->open has said -EINPROGRESS */
	bool closing;	/* ops->close was called */
	bool closed;	/* and so was vu_closed */
	bool ioas_gone; /* so was ioas_ctx_destroy's done */
	enum vu_state state;
	struct vu_caps caps;
	struct ioas_ctx *ioas;
	struct irq_set *irqs;
	void *dev;
	struct ioas_op op;   /* of the message at hand */
	unsigned trash;	     /* closings of its fds that are under way */
	unsigned multi_next; /* entry of REGION_WRITE_MULTI, vector of SET_IRQS */
	int pid, uid;
	uint64_t messages;
	struct vu_msg msg;
	struct vu_out out;
};

struct vu_listener {
	struct reactor *home;
	struct vu_listener_config cfg; /* path is ours */
	struct reactor_fd rfd;
	struct reactor_timer retry; /* accept() had no fd or memory */
	bool paused;
	dev_t st_dev; /* what we bound, so that we unlink no other's */
	ino_t st_ino;
	struct list sessions, held;
	unsigned count;		   /* of sessions */
	struct vu_session *active; /* owns the device, or is about to */
	bool stopping;
	struct reactor_msg finish;
	void (*done)(void *arg);
	void *arg;
};

/*
 * One command. start is called with a message that has @min bytes of payload at
 * least, its argsz checked. It prepares the reply with vu_reply_alloc() (none: a bare
 * header) and gives 0, -errno, or -EINPROGRESS. After a 0, or later the op's,
 * finish (may be NULL) has the last word, in the same way.
 */
struct vu_cmd {
	int (*start)(struct vu_session *s, struct vu_msg *m);
	int (*finish)(struct vu_session *s, struct vu_msg *m);
	uint32_t min, keep; /* payload: needed; kept (0: as needed) */
	bool argsz;	    /* it starts with the size that is meant */
	uint8_t modes;
};
#define VU_IN_LEGACY 1u
#define VU_IN_IOMMUFD 2u
#define VU_IN_BOTH 3u

/* sock.c: sockets without protocol. All give 0 or more, or -errno. */
int vu_sock_bind(const struct vu_listener_config *cfg, struct stat *st);
void vu_sock_unlink(const char *path, dev_t dev, ino_t ino);
int vu_sock_accept(int fd, int *pid, int *uid);
/*
 * Some bytes (0: end of file) and the descriptors with them; -EPROTO: lost some, or they are more than VU_MAX_FDS now. The kernel
 * shall drop none of them itself: that may be a close that hangs, on our thread. So @fds has room for all.
 */
ssize_t vu_sock_recv(int fd, void *buf, size_t len, int *fds, unsigned *nfds);
ssize_t vu_sock_send(int fd, const void *buf, size_t len, int sendfd);

/*
 * sock.c: close a client's descriptors on a worker, for that may hang (FUSE, NFS, a socket that lingers). Takes @fds. @s (may be
 * NULL) reads nothing, and is not freed, before they are closed; then it is kicked. So a client has one worker
 * busy, and one whose closes never end keeps its own listener from its next client, no other's.
 */
void vu_trash_fds(struct vu_session *s, int *fds, unsigned nfds);

/* msg.c */
/*
 * Read on. 1: the message is whole; -EAGAIN: not yet; -EINPROGRESS: there may be more of it, which is for the next call, as
 * a client may send it a byte at a time; 0: end of file; -EPROTO: the
 * stream is broken (msg_size, descriptors); else -errno. Adds the bytes to @bytes.
 */
int vu_msg_read(struct vu_msg *m, int fd, size_t *bytes);
void vu_msg_init(struct vu_msg *m);
void vu_msg_fini(struct vu_msg *m); /* frees; the fds are the caller's */
/* The command table's row; NULL: none, *err says what to answer. */
const struct vu_cmd *vu_cmd_find(unsigned command, int *err);
/* Handle s->msg: 0, -errno or -EINPROGRESS. */
int vu_msg_start(struct vu_session *s);
int vu_msg_finish(struct vu_session *s, int err);
/* Room for @len bytes of reply payload, zeroed; NULL: no memory. */
void *vu_reply_alloc(struct vu_session *s, size_t len);
/* Make s->out the answer @err to s->msg, or nothing when none is wanted. */
void vu_reply_seal(struct vu_session *s, int err);
/* Send what is left. 0: all; -EAGAIN; -errno: the client is lost. */
int vu_reply_flush(struct vu_session *s);
void vu_out_init(struct vu_out *out);
void vu_out_fini(struct vu_out *out);

/* session.c */
/* Takes @fd, a connected socket. */
int vu_session_create(struct vu_listener *l, int fd, int pid, int uid);
void vu_session_kick(struct vu_session *s);
/* sock.c: a session of @l has been freed. */
void vu_listener_update(struct vu_listener *l);

/* An ioas function's result, when it took &s->op: as it is. */
void vu_op_done(struct ioas_op *op, int err);

/* The handlers. device.c */
int vu_device_get_info(struct vu_session *s, struct vu_msg *m);
int vu_device_get_region_info(struct vu_session *s, struct vu_msg *m);
int vu_device_get_region_io_fds(struct vu_session *s, struct vu_msg *m);
int vu_device_get_irq_info(struct vu_session *s, struct vu_msg *m);
int vu_device_reset(struct vu_session *s, struct vu_msg *m);
int vu_device_feature(struct vu_session *s, struct vu_msg *m);
/* region.c */
int vu_region_read(struct vu_session *s, struct vu_msg *m);
int vu_region_write(struct vu_session *s, struct vu_msg *m);
int vu_region_write_multi(struct vu_session *s, struct vu_msg *m);
int vu_region_write_multi_next(struct vu_session *s, struct vu_msg *m);
/* dma.c */
int vu_dma_map(struct vu_session *s, struct vu_msg *m);
int vu_dma_unmap(struct vu_session *s, struct vu_msg *m);
/* irqs.c */
int vu_device_set_irqs(struct vu_session *s, struct vu_msg *m);
int vu_device_set_irqs_next(struct vu_session *s, struct vu_msg *m);
/* iommufd.c */
int vu_iommufd_alloc_ioas(struct vu_session *s, struct vu_msg *m);
int vu_iommufd_destroy_ioas(struct vu_session *s, struct vu_msg *m);
int vu_iommufd_ioas_map(struct vu_session *s, struct vu_msg *m);
int vu_iommufd_ioas_map_done(struct vu_session *s, struct vu_msg *m);
int vu_iommufd_ioas_unmap(struct vu_session *s, struct vu_msg *m);
int vu_iommufd_ioas_copy(struct vu_session *s, struct vu_msg *m);
int vu_iommufd_ioas_copy_done(struct vu_session *s, struct vu_msg *m);
int vu_iommufd_bind(struct vu_session *s, struct vu_msg *m);
int vu_iommufd_attach_pt(struct vu_session *s, struct vu_msg *m);
int vu_iommufd_detach_pt(struct vu_session *s, struct vu_msg *m);

#endif
