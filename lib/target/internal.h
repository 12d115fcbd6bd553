/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * target, the inside: transport, subsystems, listeners, and what the RPC methods share. Not for other modules.
 *
 * Everything but endpoint.c runs on the control reactor.
 */
#ifndef TARGET_INTERNAL_H
#define TARGET_INTERNAL_H

#include "belfry/bdev.h"
#include "belfry/log.h"
#include "belfry/nvme.h"
#include "belfry/pci.h"
#include "belfry/rpc.h"
#include "belfry/target.h"
#include "belfry/vfio_user.h"

#define TGT_NAME "nvmf_tgt"
#define TRTYPE "VFIOUSER"
#define TICK_RATE 1000000000 /* our ticks are nanoseconds */
#define DISCOVERY_NQN "nqn.2014-08.org.nvmexpress.discovery"

/* fanout.c: a function on each reactor, one after the other, then @done on the control reactor. */
struct fanout {
	struct reactor_msg msg;
	unsigned next;
	void (*fn)(struct fanout *f);
	void (*done)(struct fanout *f);
};
void fanout_run(struct fanout *f);

/* ---- transport.c: options of the one transport ---- */
/* What a listener may have otherwise than the transport. */
struct transport_flags {
	bool disable_mappable_bar0, disable_adaptive_irq,
		disable_shadow_doorbells;
};
struct transport {
	bool created;
	uint16_t max_queue_depth, max_io_qpairs, max_aq_depth;
	uint32_t max_io_size;
	struct transport_flags flags;
	struct pci_ids ids;
};
extern struct transport transport;
bool is_vfiouser(const char *trtype);
json_t *transport_json(void);
/* @o gets those of @flags that are set in @which; NULL: all. */
void transport_flags_json(json_t *o, const struct transport_flags *flags,
			  const struct transport_flags *which);
/* The transport as a listener has it that was given @flags, where @given says so. */
struct transport transport_with(const struct transport_flags *flags,
				const struct transport_flags *given);

/* ---- subsystem.c ---- */
struct host {
	struct list node;
	char nqn[]; /* a NUL at its end */
};

struct subsystem {
	struct list node;
	struct nvme_subsys *core;
	char *nqn, *serial, *model, *admin_label;
	uint32_t max_namespaces;
	uint16_t min_cntlid, max_cntlid;
	bool allow_any_host, enable_nssr;
	struct list hosts, listeners;
	unsigned ops;  /* namespace changes under way */
	bool deleting; /* listeners and namespaces are going */
	bool stepping, ns_going;
	struct reactor_timer retry;
	struct nvme_op op;	 /* of the namespace that goes while deleting */
	void (*gone)(void *arg); /* told when the subsystem is no more */
	void *arg;
};
extern struct list subsystems;

struct subsystem *subsystem_find(const char *nqn);
/* NULL, with an error sent: unknown, or being deleted. Also judges tgt_name. */
struct subsystem *subsystem_for(struct rpc_req *req, const char *nqn,
				const char *tgt_name);
bool target_name_ok(struct rpc_req *req, const char *tgt_name);
void subsystem_delete(struct subsystem *s, void (*gone)(void *arg), void *arg);
/* Something that a deletion may wait for has ended. */
void subsystem_step(struct subsystem *s);
bool subsystem_admits(const struct subsystem *s);
/* allow_any_host or the hosts changed: tell the listeners. */
void subsystem_admit(struct subsystem *s);
/* -EINVAL, and why in a sentence. */
int nqn_check(const char *nqn, char *why, size_t len);

/* ---- listener.c ---- */
struct endpoint;
enum listener_state { LISTENER_STARTING, LISTENER_UP, LISTENER_GOING };
struct listener_config {
	const char *traddr, *trsvcid, *adrfam;
	const char *owner, *group;	     /* names or numbers; NULL: leave */
	uint32_t mode;			     /* 0: 0600 */
	struct pci_ids ids;		     /* 0: the transport's */
	struct transport_flags flags, given; /* not given: the transport's */
	int32_t numa_id;		     /* -1: any */
};
struct listener {
	struct list node; /* subsystem->listeners */
	struct subsystem *subsystem;
	struct listener_config cfg; /* its strings are the listener's */
	struct endpoint *ep;
	struct reactor *home;
	enum listener_state state;
	uint32_t tag;
	struct rpc_req *starting; /* who asked for it */
	struct rpc_req *removing; /* NULL: nobody waits */
};
/* Answers @req. */
void listener_add(struct rpc_req *req, struct subsystem *s,
		  const struct listener_config *cfg);
/* Answers @req (may be NULL) when it has drained. -EALREADY: it goes already. */
int listener_remove(struct rpc_req *req, struct listener *l);
struct listener *listener_find(const struct subsystem *s, const char *traddr);
struct listener *listener_by_tag(uint32_t tag);
json_t *listener_address(const struct listener_config *cfg);

/* ---- endpoint.c: the home reactor's side of a listener ---- */
struct endpoint_config {
	struct nvme_subsys *subsys;
	const char *path; /* of the socket; borrowed until @started */
	unsigned mode;
	int uid, gid;
	uint32_t tag;
	bool admit;
	struct pci_ids ids;
	struct transport transport;
	uint64_t arena_len;
};
struct endpoint_start {
	/* the caller's; @done runs on the control reactor, @ep is NULL on error */
	void (*done)(struct endpoint_start *s, struct endpoint *ep, int err);
	struct endpoint_config cfg;
	struct reactor *home;
	/* the endpoint's */
	struct reactor_msg msg;
	struct endpoint *ep;
	int err;
};
void endpoint_start(struct endpoint_start *s);
/* @done(arg) on the control reactor when the last client's I/O has landed. */
void endpoint_stop(struct endpoint *ep, void (*done)(void *arg), void *arg);
/* Serve clients or refuse them (EACCES); those that are there are thrown out then. */
void endpoint_admit(struct endpoint *ep, bool admit);
/* On reactor @r: call @fn for each endpoint there. */
struct endpoint_client {
	uint32_t tag;
	bool connected;
	struct vu_client_info info;
};
void endpoint_each(struct reactor *r,
		   void (*fn)(const struct endpoint_client *c, void *arg),
		   void *arg);

/* ---- config.c, save.c, target.c ---- */
/* @error: a sentence, or NULL: loaded. */
void config_load(const char *path, void (*done)(const char *error));
json_t *save_bdev(void);
json_t *save_nvmf(void);
uint64_t target_arena_len(void);
bool target_is_stopping(void);
void target_subsystem_gone(void);
/* framework_start_init; false: it has begun already */
bool target_begin(void);

/* ---- RPC tables and helpers ---- */
void no_such_bdev(struct rpc_req *req, const char *name); /* sends the error */
void rpc_bdev_register(void);
void rpc_bdev_info_register(void);
void rpc_bdev_info_fini(void);
void rpc_nvme_register(void);
void rpc_nvme_info_register(void);
void rpc_listener_register(void);
void rpc_stats_register(void);
void rpc_notify_register(void);
void rpc_histogram_register(void);
void rpc_framework_register(void);
void rpc_options_register(void);
void rpc_absent_register(void);
void rpc_transport_register(void);

#define PARAM(struct_, field, type)                              \
	{                                                        \
#field, type, offsetof(struct_, field), false, 0 \
	}
#define PARAM_REQ(struct_, field, type)                         \
	{                                                       \
#field, type, offsetof(struct_, field), true, 0 \
	}
#define PARAM_SEEN(struct_, field, type)                       \
	{                                                      \
#field, type, offsetof(struct_, field), false, \
			offsetof(struct_, field##_seen)        \
	}
/* of struct transport_flags, in two members of the struct: the values, and which were given */
#define PARAM_FLAG(struct_, values, given, flag)                        \
	{                                                               \
#flag, RPC_BOOL, offsetof(struct_, values.flag), false, \
			offsetof(struct_, given.flag)                   \
	}
#define PARAM_IGNORE(name)                    \
	{                                     \
		name, RPC_IGNORE, 0, false, 0 \
	}
/* The handler reads them: pci_ids_decode(). */
#define PARAM_ANY(name)                    \
	{                                  \
		name, RPC_ANY, 0, false, 0 \
	}
#define PARAM_PCI_IDS                                           \
	PARAM_ANY("pci_vendor_id"), PARAM_ANY("pci_device_id"), \
		PARAM_ANY("pci_subsystem_vendor_id"),           \
		PARAM_ANY("pci_subsystem_id")
/* -32602, and what is wrong */
#define bad_params(req, ...) \
	rpc_error(req, RPC_INVALID_PARAMS, "Invalid parameters: " __VA_ARGS__)
/* Decode no params at all. */
bool no_params(struct rpc_req *req, const json_t *params);
/* As SPDK names its threads. */
void thread_name(const struct reactor *r, char *buf, size_t len);
void cpumask(const struct reactor *r, char *buf, size_t len);
json_t *uuid_json(const uuid_t uuid);
json_t *hex_json(const uint8_t *bytes, size_t n);
bool parse_hex(const char *s, uint8_t *out, size_t n);
/* The members pci_vendor_id and so on; only those that are there (0: the default) are read or printed. */
bool pci_ids_decode(struct rpc_req *req, const json_t *params,
		    struct pci_ids *ids);
void pci_ids_json(json_t *o, const struct pci_ids *ids);

#endif
